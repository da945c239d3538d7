#!/usr/bin/env python
"""The command line of Perennial; `python manage.py help` lists what it can do."""

import sys

from config.launch import launch

if __name__ == "__main__":
    sys.exit(launch(sys.argv))

"""What differs between Linux and macOS: Linux tells a child that its parent died, and has /proc."""

import sys

LINUX = sys.platform == "linux"

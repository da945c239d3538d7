"""A worker of its own process for the tests: it makes the codes of a batch, in chunks of a hundred."""

import os
import sys
from datetime import datetime

os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"

import django

django.setup()

from coupons.services import code_batches  # noqa: E402 needs the settings

if __name__ == "__main__":
    batch, at = sys.argv[1:]
    code_batches.make_codes(batch_id=int(batch), at=datetime.fromisoformat(at), chunk=100)

"""The bare DRF views that the API is measured against: no credentials, no limits, no rules."""

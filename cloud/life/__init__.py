"""Remaining life: from units that were run to failure to how long others will last, with intervals."""

"""A task module whose import does not come back."""

import time

time.sleep(600)

"""Why a score is not the expected one: the score under variants that are known to move it, and what the images show."""

import numpy as np

import nvgbench as nb

x, y = np.random.default_rng(0).standard_normal((2, 500, 16))
before = nb.score(x, y, metrics=["mean-distance"], name="before")
after = nb.score(x + 0.1, y, metrics=["mean-distance"], name="after")
print(after["mean-distance[features]"])
print(nb.compare(before, after, paired=True).verdict)

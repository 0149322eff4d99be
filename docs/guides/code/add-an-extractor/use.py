import numpy as np

import nvgbench as nb

images = np.random.default_rng(0).integers(0, 256, (200, 32, 32, 3), dtype=np.uint8)
np.savez("samples.npz", arr_0=images)
print(nb.fid(images, "shapes", extractor="colours"))

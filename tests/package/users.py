"""Calls as users write them, right and wrong: mypy has to find just the errors named here."""

import numpy as np

import fastinit as fi

x = np.empty((4, 4), np.float32)

fi.normal((4, 4), std=0.02, dtype="bfloat16", rng=42)
fi.normal((4, 4), 0.0, 0.02)
fi.normal((4, 4), sttd=1)  # E: Unexpected keyword argument "sttd" for "normal"
fi.normal("4, 4")  # E: Argument 1 to "normal" has incompatible type "str"
fi.he_normal((4, 4), nonlinearity="gelu", fan_in=3, in_axis=(0, 1), global_shape=(8, 4))
fi.he_normal((4, 4), gain=2.0)  # E: Unexpected keyword argument "gain" for "he_normal"
fi.kaiming_normal((4, 4), mode=3)  # E: Argument "mode"
fi.constant((4, 4))  # E: Missing positional argument "value" in call to "constant"
fi.zeros((4, 4), rng=3)  # E: Unexpected keyword argument "rng" for "zeros"
fi.orthogonal((4, 4), gain="relu")  # E: Argument "gain" to "orthogonal" has incompatible type "str"

fi.he_normal_(x, nonlinearity="gelu", in_axis=1, out_axis=0, rng=fi.default_rng(1)).sum()
fi.he_normal_(x, nonlinearty="gelu")  # E: Unexpected keyword argument "nonlinearty"
fi.uniform_(x, -1, 1, seed=3)  # E: Unexpected keyword argument "seed" for "uniform_"

fi.Initializer("normal", std=0.02).fill(x, rng=0, threads=2).mean()
fi.Initializer("normal").fill(x, seed=0)  # E: Unexpected keyword argument "seed" for "fill"
fi.Initializer.parse(3)  # E: Argument 1 to "parse" of "Initializer" has incompatible type "int"
fi.recommend("relu").initializer.fill(x).sum()
print(fi.recommend("relu").arguments)  # E: "Recommendation" has no attribute "arguments"

"""What rule a tensor probably wants, by its name: advice for whoever has to write one."""

from __future__ import annotations

import re

from fastinit.recipe._tensor import Tensor

_COMPUTED = "one that computes its numbers (or give the model's config.json)"

# The first that fits. Names are those of PyTorch, transformers, PEFT and Mamba.
_SUGGESTIONS = (
    (r"position_ids$", 'init = "arange"'),
    (
        r"embed_positions",
        'init = "sinusoid" and layout = "halves", as in Marian and Pegasus, with endpoint = true '
        'as in Whisper\'s encoder; or, where it is trained, init = "normal" and std = 0.02',
    ),
    (
        r"pos(ition|itional)?_(embed|enc)|(^|\.)pe$",
        'init = "normal" and std = 0.02 if it is trained; init = "sinusoid" if it is such a table; '
        "or give the model's config.json",
    ),
    (r"sampling_offsets\.bias$", _COMPUTED),
    (r"time_proj\.weight$", 'init = "normal" and std = 16, the scale of its Fourier features'),
    (r"empty_weight$", _COMPUTED),
    (r"logit_bias$", 'init = "constant" and value = -10, as in SigLIP\'s own code, or 0'),
    (r"masked_bias$", 'init = "constant" and value = -1e4, as in GPT-2'),
    (
        r"(attn|attention)\.bias$",
        'one that computes its numbers, if it is a mask; or init = "zeros"',
    ),
    (r"inv_freq$", 'init = "geomspace", start = 1 and stop = 1e-4, which is 1 / theta'),
    (r"freqs", _COMPUTED),
    (r"A_log$", 'init = "arange", start = 1 and log = true; or init = "a_log" for Mamba-2'),
    (r"dt_bias$|dt_proj\.bias$", 'init = "dt_bias"'),
    (r"logit_scale$", 'init = "constant" and value = "log(1 / 0.07)", as CLIP has it'),
    (r"lora_B|zero_conv|modulation", 'init = "zeros"'),
    (r"lora_A", 'init = "he_uniform", a = "sqrt(5)", in_axis = 1 and out_axis = 0, as in PEFT'),
    (r"num_batches_tracked|token_type_ids", 'init = "zeros"'),
    (r"scale(_inv)?s?$|_scale|running_var|gamma$", 'init = "ones"'),
    (r"running_mean|beta$|bias", 'init = "zeros"'),
    (r"norm.*weight$|ln.*weight$", 'init = "ones"'),
    (r"embed|token|query", 'init = "normal" and std = 0.02'),
)

_ENOUGH = 200  # characters of a name: foreign ones have millions, and the patterns look far ahead


def suggestion(tensor: Tensor) -> str:
    """Return what a rule for a tensor may say.

    Examples
    --------
    >>> import numpy as np
    >>> suggestion(Tensor("h.0.attn.lora_B.weight", (64, 4), np.dtype("float32")))
    'init = "zeros"'
    """
    name = tensor.name[-_ENOUGH:]
    for pattern, text in _SUGGESTIONS:
        if re.search(pattern, name):
            return text
    if tensor.dtype.kind in "iub":
        return _COMPUTED
    if len(tensor.shape) < 2:
        return 'init = "ones", or "zeros"'
    return 'init = "normal" and std = 0.02'

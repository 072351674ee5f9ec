"""What a reader clicks through: samples, tokens, scores. Rows in, a widget and its plain HTML out; never imports torch.

Everything here comes twice, as `kl_slider` does: a widget for a person before a page with a kernel (JupyterLab,
VS Code), and the same as an HTML table for a runner, for GitHub, and for a notebook exported as a web page.
"""

from rlhf_lib.browse.playground import playground
from rlhf_lib.browse.samples import browse_samples
from rlhf_lib.browse.tokens import inspect_tokens

__all__ = ["browse_samples", "inspect_tokens", "playground"]

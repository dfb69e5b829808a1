"""Adapters: small trained modules on a frozen body, one file each; `effxfer.net.edits` records them.

These are own modules. `peft` wraps layers under new names and stores its changes in a separate config. Here an adapter
is an edit of the network: the manifest rebuilds it, and the body's tensors keep their names and values.

An adapter that only changes weights is a parametrization (`torch.nn.utils.parametrize`). The layer keeps its stride,
groups and padding, and merging writes exactly the weights that the layer computed with. An adapter that adds layers is
a child of the module whose output it changes.
"""

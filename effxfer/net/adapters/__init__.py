"""Small trained parts on a frozen body, one file each; `effxfer.net.edits` records them.

Own modules instead of `peft`, which wraps layers under new names and keeps what it did in a config of its own: here an
adapter is an edit of the network, so that its manifest rebuilds it, and the body's tensors keep what they hold.

What changes only weights is a parametrization (`torch.nn.utils.parametrize`): the layer itself, with its stride, groups
and padding, stays what it is, so that merging leaves the very numbers that it computed with. What adds layers hangs on
the module whose output it changes, as a child of it.
"""

"""The operators ``torch.ops.bytenorm`` on plain tensors."""

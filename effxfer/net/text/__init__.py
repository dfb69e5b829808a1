"""Text encoders: the network, its pooling, and pretrained weights from a Hugging Face folder."""

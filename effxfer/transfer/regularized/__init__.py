"""Fine-tuning with a second loss: towards the pretrained network, another network, or the features of a class."""

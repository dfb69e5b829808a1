"""What ModernBERT has beyond BERT: rotary positions, windows of attention, gated MLPs."""

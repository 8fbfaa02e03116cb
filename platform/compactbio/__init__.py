"""compactbio: distil, pretrain, fine-tune and score compact biomedical language models on Ray."""

__version__ = "0.1.0"

"""How every picture of numbers looks: one canvas, one set of colours, labels that cover nothing.

`canvas` and `encode` make a picture; `labels` writes beside its points. matplotlib is imported when one is drawn.
"""

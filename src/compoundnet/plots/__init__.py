"""How every plot looks: one canvas, one set of colours, labels that cover nothing.

`canvas` and `encode` make a plot; `labels` writes beside its points. matplotlib is imported when a plot is drawn.
"""

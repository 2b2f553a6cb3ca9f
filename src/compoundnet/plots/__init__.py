"""The common style of all plots: one canvas, one set of colours, labels without overlap.

`canvas` and `encode` make a plot; `labels` places text beside its points; `fonts` finds fonts for any script.
matplotlib is imported when a plot is drawn.
"""

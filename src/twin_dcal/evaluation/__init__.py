"""One evaluation from what a user names to figures, tables and files, and the comparison of several.

Import from the modules themselves. All but `speed` load without torch.
"""

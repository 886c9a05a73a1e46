"""The compiler: from the graph of a trace to machine code, stage after stage.

Read `compiled.py` first: it calls the stages in their order and explains the terms.
"""

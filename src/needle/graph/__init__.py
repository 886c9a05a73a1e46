"""The graph: nodes, the operator contract, evaluators, order and reverse mode."""

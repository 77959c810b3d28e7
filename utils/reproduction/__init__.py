"""The paper's tables: what they are made of, the runs that takes, and ours beside theirs."""

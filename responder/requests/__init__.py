"""Which requests were slow, and why those? Spans in, finished requests out; prompts and outputs are never kept."""

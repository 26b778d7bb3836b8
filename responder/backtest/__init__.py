"""What would the responder have said about the past? The whole chain, on a virtual clock."""

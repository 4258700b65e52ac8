"""Who is who: guarded HTTP requests, DID documents, keys and service tokens."""

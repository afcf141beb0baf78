"""New video in, windows and events out: files and reports, no algorithm of its own."""

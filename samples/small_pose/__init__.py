"""How the small pose network is trained, composed and measured."""

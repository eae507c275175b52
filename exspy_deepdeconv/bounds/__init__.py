"""How good a result can be at best: rivals that are told the truth, and the Cramer-Rao bound."""

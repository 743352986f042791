"""Series made of others: ratios, spreads and weighted baskets."""

"""Remove weights one by one (`lottery`) or channel by channel (`structured`); make masks smaller layers (`compact`)."""

"""What one person owns, as a whole: the download of it, its deletion with the account, and rules handed to another."""

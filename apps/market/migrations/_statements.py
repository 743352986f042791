"""What the migration does beside making tables: partitions of quotes, and marks of changed assets."""


def partition(apps, schema_editor):
    """Partition the quotes by day on PostgreSQL: a day is dropped in a moment, and its index fits into memory."""
    if schema_editor.connection.vendor != "postgresql":
        return
    schema_editor.execute("ALTER TABLE market_quote RENAME TO market_quote_plain")
    schema_editor.execute("CREATE TABLE market_quote (LIKE market_quote_plain INCLUDING ALL) PARTITION BY RANGE (at)")
    schema_editor.execute("DROP TABLE market_quote_plain")
    # Every row of these is updated with each entry: room for the new version on the same page spares the indexes.
    schema_editor.execute("ALTER TABLE market_latestquote SET (fillfactor = 50)")
    schema_editor.execute("ALTER TABLE market_feedhead SET (fillfactor = 50)")


# Table -> the columns whose change may give rules other assets; making and deleting assets may too.
COLUMNS_OF_CHANGES = {"market_asset": ("feed_id", "calendar", "tags", "symbol", "signed"), "market_feed": ("name",)}


def mark_changes_of_assets(apps, schema_editor):
    """Write an AssetsChange after each such statement, whoever made it: no code needs to remember it."""
    is_postgresql = schema_editor.connection.vendor == "postgresql"
    # Each database's way to write a row with nothing but the next id, and to compare what may be NULL.
    next_id, differs = ("DEFAULT", "IS DISTINCT FROM") if is_postgresql else ("NULL", "IS NOT")
    mark = f"INSERT INTO market_assetschange (id) VALUES ({next_id});"  # noqa: S608 (words of our own)
    if is_postgresql:
        schema_editor.execute(
            "CREATE FUNCTION market_mark_assets_change() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN {mark} RETURN NULL; END $$"
        )
        mark = "EXECUTE FUNCTION market_mark_assets_change()"
    else:
        mark = f"BEGIN {mark} END"
    for change in ("insert", "delete"):
        each = "FOR EACH STATEMENT" if is_postgresql else ""
        schema_editor.execute(f"CREATE TRIGGER market_asset_{change} AFTER {change} ON market_asset {each} {mark}")
    for table, columns in COLUMNS_OF_CHANGES.items():
        changed = " OR ".join(f"OLD.{column} {differs} NEW.{column}" for column in columns)
        schema_editor.execute(
            f"CREATE TRIGGER {table}_update AFTER UPDATE ON {table} FOR EACH ROW WHEN ({changed}) {mark}"
        )

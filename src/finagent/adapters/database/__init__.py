"""The durable store: tables, records as rows, migrations, the one writer and the readers."""

"""The lake: verified campaigns as append-only Parquet, in a folder or a bucket, and questions to them.

contents.py   the tables as they are now, from the newest snapshot and what came after; snapshots are written here
places.py     an address (file:// or s3://) as a file system, and what it refused in plain words
put.py        the rows of a bundle put where they belong, once
query.py      SQL over a lake, through DuckDB
questions.py  ten ready questions
rows.py       a bundle as rows of three tables; pure once the bundle is read
schema.py     the columns of the tables, versioned
"""

"""What Parquet files say about themselves, read without trusting them; pyarrow decodes what passes."""

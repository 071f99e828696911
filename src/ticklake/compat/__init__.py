"""For code that was written before ticklake: the names and arguments it knows, over ticklake's public API.

- `ticklake.compat.ucs`: `UnifiedCloudService` and `CloudTarget`, objects and parts of objects down and up.
- `ticklake.compat.converter`: `DataConverter`, data frames and Parquet files into a catalog.
- `ticklake.compat.engine`: `BacktestEngine`, runs over the JSON configs of such code.

`docs/migrating.md` shows each before and after. Data frames are those of pandas, which comes with
`ticklake[compat]`.
"""

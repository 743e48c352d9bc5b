"""Facts about data sets, as files beside this one; `ecgtransfer.corpus` reads them."""

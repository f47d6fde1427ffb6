"""Volume groups of LVM2: which logical volumes lie in physical ones, and where."""

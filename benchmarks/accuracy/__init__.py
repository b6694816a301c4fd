"""How near to float trained networks stay in 8 bits: in SNR, in what they are for, and what it costs."""

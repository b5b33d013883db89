"""The project's random numbers in numpy: the same streams as llmc/base/rand.h, which explains them."""
import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(z):
    z = np.asarray(z, dtype=np.uint64)
    with np.errstate(over="ignore"):
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def key(seed, name):
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001B3 % 2**64
    return mix(np.uint64(seed % 2**64 ^ h))


def at(k, i):
    """64 bits of counter i (an integer or an array) in the stream of key k."""
    with np.errstate(over="ignore"):
        return mix(k + (np.asarray(i, dtype=np.uint64) + np.uint64(1)) * GOLDEN)


def uniform(k, count):
    """float32 values 0..count-1 in (-1, 1), the same bits as in C."""
    top = (at(k, np.arange(count)) >> np.uint64(40)).astype(np.int64)
    return ((2 * top + 1 - 2**24) * 2.0**-24).astype(np.float32)


def normal(k, count):
    """float32 values 0..count-1 of a standard normal: equal to C except where two math libraries round a double apart."""
    h = at(k, np.arange((count + 1) // 2))
    u1 = ((h >> np.uint64(32)).astype(np.float64) + 0.5) * 2.0**-32
    u2 = ((h & np.uint64(0xFFFFFFFF)).astype(np.float64) + 0.5) * 2.0**-32
    r, t = np.sqrt(-2.0 * np.log(u1)), 6.283185307179586 * u2
    return np.stack([r * np.cos(t), r * np.sin(t)], axis=1).reshape(-1)[:count].astype(np.float32)


class Rng:
    """The sequential generator (splitmix64)."""

    def __init__(self, seed, name):
        self.state = int(key(seed, name))

    def next(self):
        self.state = (self.state + int(GOLDEN)) % 2**64
        return int(mix(np.uint64(self.state)))

    def uniform(self):
        return (self.next() >> 40) * 2.0**-24

    def below(self, n):
        limit = 2**64 - 1 - (2**64 - 1) % n
        x = self.next()
        while x >= limit:
            x = self.next()
        return x % n

    def permutation(self, n):
        order = list(range(n))
        for i in range(n - 1, 0, -1):
            j = self.below(i + 1)
            order[i], order[j] = order[j], order[i]
        return order

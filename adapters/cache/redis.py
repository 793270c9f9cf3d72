"""The cache that all hubs share: keys of Redis that expire."""

from mcp_hub.adapters import redis_client
from mcp_hub.adapters.cache.locking import LockingCache

# Each script is one step on the server: between looking at the owner and acting on it, the lock
# could pass to another.
_ACQUIRE = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return redis.call('INCR', KEYS[2])
end
return false
"""
_RENEW = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
"""


class RedisCache(LockingCache):
    """Values under `{prefix}:cache:…`, locks under `{prefix}:lock:…`.

    A lock is held on one Redis, as its documentation describes for a single instance
    (`SET NX PX` with a token): it is for doing work once, and `fence` is for being sure.
    """

    def __init__(self, url: str, prefix: str = "mcp-hub") -> None:
        self._url = url
        self._prefix = prefix
        self._redis = redis_client.connect(url)
        self._acquire_script = self._redis.register_script(_ACQUIRE)
        self._renew_script = self._redis.register_script(_RENEW)
        self._release_script = self._redis.register_script(_RELEASE)

    async def get(self, key: str) -> bytes | None:
        with redis_client.translated(self._url):
            value = await self._redis.get(self._key(key))
        return value.encode() if isinstance(value, str) else value

    async def set(self, key: str, value: bytes, ttl_s: float) -> None:
        if ttl_s <= 0:
            await self.delete(key)
            return
        with redis_client.translated(self._url):
            await self._redis.set(self._key(key), value, px=_ms(ttl_s))

    async def delete(self, key: str) -> None:
        with redis_client.translated(self._url):
            await self._redis.delete(self._key(key))

    async def check(self) -> str:
        return await redis_client.describe(self._redis, self._url)

    async def close(self) -> None:
        await self._redis.aclose()

    def _key(self, key: str) -> str:
        return f"{self._prefix}:cache:{key}"

    def _lock_key(self, name: str) -> str:
        # Braces keep both keys of a lock on one node of a cluster.
        return f"{self._prefix}:lock:{{{name}}}"

    async def _acquire(self, name: str, owner: str, ttl_s: float) -> int | None:
        key = self._lock_key(name)
        with redis_client.translated(self._url):
            fence: int | None = await self._acquire_script(
                keys=[key, f"{key}:fence"], args=[owner, _ms(ttl_s)]
            )
        return fence

    async def _renew(self, name: str, owner: str, ttl_s: float) -> bool:
        with redis_client.translated(self._url):
            return bool(
                await self._renew_script(keys=[self._lock_key(name)], args=[owner, _ms(ttl_s)])
            )

    async def _release(self, name: str, owner: str) -> None:
        with redis_client.translated(self._url):
            await self._release_script(keys=[self._lock_key(name)], args=[owner])


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))

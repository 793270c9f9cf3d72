"""The Lua scripts of the queue on BullMQ: each is one step on the server.

Adding, ending and removing a job are BullMQ's own scripts, with a few lines before them; claiming,
keeping and giving back are ours, over BullMQ's keys, because BullMQ takes one job a call, forgets
its place in the order, and goes by the clients' clocks. Ours, like BullMQ's, leave the queue as
it was when Redis is full: their first write is one that a full Redis allows, unless they add.
"""

from bullmq.queue_keys import QueueKeys
from bullmq.redis_connection import SCRIPT_DEFINITIONS, loadScript

BY_A_HUB = "mcp-hub"
"""The field of an `active` event that says that a hub took the job, and which consumer."""


class Keys:
    """The keys of the queue `name`, as BullMQ names them, and one of ours: `leases`.

    `leases` is a sorted set of the jobs that hubs hold, by when their lease ends: BullMQ's locks
    alone would have to be looked at one by one.
    """

    def __init__(self, prefix: str, name: str) -> None:
        self._keys = QueueKeys(prefix).getKeys(name)
        self.base: str = self._keys[""]
        self.events: str = self._keys["events"]
        self.leases = f"mcp-hub:{prefix}:{name}:leases"
        self.own = [
            *self.of("wait", "active", "prioritized", "delayed", "events", "stalled", "limiter",
                     "meta", "pc", "marker", "paused"),
            self.leases,
        ]  # fmt: skip
        """The keys of the scripts that are ours, in their order."""

    def of(self, *names: str) -> list[str]:
        return [self._keys[name] for name in names]

    def job(self, message_id: str) -> str:
        return f"{self.base}{message_id}"

    def is_reserved(self, message_id: str) -> bool:
        """Whether a job of that id would have the key of the queue's own bookkeeping."""
        return message_id in self._keys


def _bullmq(name: str) -> str:
    script: str = loadScript(SCRIPT_DEFINITIONS[name])
    return script


_HEAD = """
local wait, active, prioritized, delayed, events, stalled, limiter, meta, pc, marker, paused,
  leases = unpack(KEYS)
local prefix = ARGV[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function emit(...)
  local longest = redis.call('HGET', meta, 'opts.maxLenEvents') or 10000
  redis.call('XADD', events, 'MAXLEN', '~', longest, '*', 'event', ...)
end

-- Since when a job waits, in ms.
local function since(id)
  local found = redis.call('HMGET', prefix .. id, 'mcp-hub:since', 'timestamp')
  return tonumber(found[1] or found[2] or 0)
end

-- A claimed job's hash holds its place among the prioritized ones as mcp-hub:score.
local function put_back(id, event)
  redis.call('ZREM', leases, id)
  redis.call('SREM', stalled, id)
  local job = prefix .. id
  if redis.call('LREM', active, -1, id) == 0 or redis.call('EXISTS', job) == 0 then return end
  redis.call('DEL', job .. ':lock')
  local place = redis.call('HMGET', job, 'mcp-hub:score', 'priority')
  local priority = tonumber(place[2] or 0)
  if place[1] then
    redis.call('ZADD', prioritized, place[1], id)
  elseif priority == 0 then
    redis.call('RPUSH', wait, id)
  else
    redis.call('ZADD', prioritized, priority * 0x100000000, id)
  end
  redis.call('ZADD', marker, 0, '0')
  if event then emit(event, 'jobId', id) end
  emit('waiting', 'jobId', id, 'prev', 'active')
end
"""
# ARGV: prefix, token, lease in ms, limit, consumer, ms of waiting that count as a point of
# priority, kinds to pass over. A flat list: id, delivery, data, id, …
# Pauses, the queue's concurrency and its rate limit are kept as BullMQ's moveToActive keeps them.
CLAIM = (
    _HEAD
    + """
local token, lease, free, consumer = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local ageing, passed_over, passes_over = tonumber(ARGV[6]), {}, false
for n = 7, #ARGV do passed_over[ARGV[n]], passes_over = true, true end

-- A hub writes the kind when it adds a job; another program's is read from its data, once.
local function is_passed_over(id)
  if not passes_over then return false end
  local kind = redis.call('HGET', prefix .. id, 'mcp-hub:kind')
  if not kind then
    local parsed, data = pcall(cjson.decode, redis.call('HGET', prefix .. id, 'data') or '')
    kind = parsed and type(data) == 'table' and data.framework
    kind = type(kind) == 'string' and kind or ''
    if redis.call('EXISTS', prefix .. id) == 1 then
      redis.call('HSET', prefix .. id, 'mcp-hub:kind', kind)
    end
  end
  return passed_over[kind]
end

-- The first job of a priority that is not passed over, from `from` on, as {id, score, rank}. By
-- its score BullMQ orders by priority, then by when a job came; by `rank` waiting counts as well.
local function first_of(priority, from)
  local before = '(' .. string.format('%.0f', (priority + 1) * 0x100000000)
  while true do
    local found = redis.call('ZRANGEBYSCORE', prioritized, from, before, 'WITHSCORES',
      'LIMIT', 0, passes_over and 100 or 1)
    for n = 1, #found, 2 do
      local id, score = found[n], found[n + 1]
      if not is_passed_over(id) then
        local rank = since(id) + priority * ageing
        return {id = id, score = score, rank = rank, priority = priority}
      end
    end
    if #found < 200 then return nil end
    from = '(' .. found[#found]
  end
end

local heads
local function read_heads()
  heads = {}
  local from = '-inf'
  while true do
    local found = redis.call('ZRANGEBYSCORE', prioritized, from, '+inf', 'WITHSCORES',
      'LIMIT', 0, 1)
    if not found[1] then return end
    local priority = math.floor(tonumber(found[2]) / 0x100000000)
    heads[#heads + 1] = first_of(priority, found[2])
    from = string.format('%.0f', (priority + 1) * 0x100000000)
  end
end

local function take_prioritized()
  if not heads then read_heads() end
  local best
  for n, head in ipairs(heads) do
    if not best or head.rank < heads[best].rank then best = n end
  end
  if not best then return nil end
  local head = heads[best]
  redis.call('ZREM', prioritized, head.id)
  local next_ = first_of(head.priority, head.score)
  if next_ then heads[best] = next_ else table.remove(heads, best) end
  return head.id, head.score
end

local function take_unprioritized()
  if not passes_over then return redis.call('RPOP', wait) end
  local count = redis.call('LLEN', wait)
  for last = count - 1, 0, -100 do
    local found = redis.call('LRANGE', wait, math.max(0, last - 99), last)
    for n = #found, 1, -1 do
      if not is_passed_over(found[n]) then
        redis.call('LREM', wait, -1, found[n])
        return found[n]
      end
    end
  end
  return false
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 1000)) do
  put_back(id, 'stalled')
end

local due = redis.call('ZRANGEBYSCORE', delayed, 0, (now + 1) * 0x1000 - 1, 'WITHSCORES',
  'LIMIT', 0, 1000)
for n = 1, #due, 2 do
  local id = due[n]
  redis.call('ZREM', delayed, id)
  redis.call('HSET', prefix .. id, 'delay', 0, 'mcp-hub:since', math.floor(due[n + 1] / 0x1000))
  local priority = tonumber(redis.call('HGET', prefix .. id, 'priority') or 0)
  if priority == 0 then
    redis.call('LPUSH', wait, id)
  else
    local number = redis.call('INCR', pc) % 0x100000000
    redis.call('ZADD', prioritized, priority * 0x100000000 + number, id)
  end
  emit('waiting', 'jobId', id, 'prev', 'delayed')
end

local set = redis.call('HMGET', meta, 'paused', 'concurrency', 'max', 'duration')
if set[1] then return {} end
if set[2] then free = math.min(free, set[2] - redis.call('LLEN', active)) end
local most = tonumber(set[3])
if most then
  local used = tonumber(redis.call('GET', limiter) or 0)
  if used >= most and redis.call('PTTL', limiter) <= 0 then
    redis.call('DEL', limiter)
    used = 0
  end
  free = math.min(free, most - used)
end

local taken = {}
while free > 0 do
  local id, score = take_unprioritized(), nil
  if not id then
    id, score = take_prioritized()
    if not id then
      -- Nothing is to come back to its place: the places may be counted from one again.
      if redis.call('LLEN', active) == 0 and redis.call('ZCARD', delayed) == 0
        and redis.call('ZCARD', prioritized) == 0 then
        redis.call('DEL', pc)
      end
      break
    end
  end
  local job = prefix .. id
  local data = redis.call('HGET', job, 'data')
  if data then
    redis.call('LPUSH', active, id)
    redis.call('ZADD', leases, now + lease, id)
    if lease > 0 then redis.call('SET', job .. ':lock', token, 'PX', lease) end
    redis.call('HDEL', job, 'defa')
    redis.call('HSET', job, 'processedOn', now, 'pb', consumer)
    if score then redis.call('HSET', job, 'mcp-hub:score', score) end
    emit('active', 'jobId', id, 'prev', 'waiting', 'mcp-hub', consumer)
    if most and redis.call('INCR', limiter) == 1 then
      redis.call('PEXPIRE', limiter, math.floor(math.abs(set[4])))
    end
    taken[#taken + 1] = id
    taken[#taken + 1] = redis.call('HINCRBY', job, 'ats', 1)
    taken[#taken + 1] = data
    free = free - 1
  end
end
return taken
"""
)

# ARGV: prefix, id, token, lease in ms. Whether the claim was held.
KEEP = (
    _HEAD
    + """
local id, token, lease = ARGV[2], ARGV[3], tonumber(ARGV[4])
local lock = prefix .. id .. ':lock'
if redis.call('GET', lock) ~= token then return 0 end
redis.call('SREM', stalled, id)
if lease > 0 then redis.call('SET', lock, token, 'PX', lease) else redis.call('DEL', lock) end
redis.call('ZADD', leases, now + lease, id)
return 1
"""
)

# ARGV: prefix, id, token, delay in ms. Whether the claim was held.
GIVE_BACK = (
    _HEAD
    + """
local id, token, delay = ARGV[2], ARGV[3], tonumber(ARGV[4])
local job = prefix .. id
if redis.call('GET', job .. ':lock') ~= token then return 0 end
if delay == 0 then
  put_back(id)
  return 1
end
redis.call('ZREM', leases, id)
redis.call('SREM', stalled, id)
redis.call('DEL', job .. ':lock')
if redis.call('LREM', active, -1, id) == 0 then return 0 end
redis.call('HSET', job, 'delay', delay)
redis.call('HDEL', job, 'mcp-hub:score')
redis.call('ZADD', delayed, (now + delay) * 0x1000, id)
emit('delayed', 'jobId', id, 'delay', now + delay)
local first = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
redis.call('ZADD', marker, first[2] / 0x1000, '1')
return 1
"""
)

# ARGV: prefix, id, ms of waiting that count as a point of priority. How many come before the job;
# of each priority those that were added before it, which are counted by halving.
POSITION = (
    _HEAD
    + """
local id, ageing = ARGV[2], tonumber(ARGV[3])
local score = redis.call('ZSCORE', prioritized, id)
if not score then
  local place = redis.call('LPOS', wait, id)
  return place and redis.call('LLEN', wait) - place - 1
end
local own = math.floor(tonumber(score) / 0x100000000)
local rank, before = since(id) + own * ageing, redis.call('LLEN', wait)
local first = 0
while true do
  local found = redis.call('ZRANGE', prioritized, first, first, 'WITHSCORES')
  if not found[1] then return before end
  local priority = math.floor(tonumber(found[2]) / 0x100000000)
  local last = first + redis.call('ZCOUNT', prioritized, found[2],
    '(' .. string.format('%.0f', (priority + 1) * 0x100000000))
  local low, high = first, last
  if priority == own then
    low = redis.call('ZRANK', prioritized, id)
  else
    while low < high do
      local middle = math.floor((low + high) / 2)
      local other = redis.call('ZRANGE', prioritized, middle, middle)[1]
      if since(other) + priority * ageing < rank then low = middle + 1 else high = middle end
    end
  end
  before = before + low - first
  first = last
end
"""
)

# How many wait; a message whose lease is over waits, though nobody has put it back yet.
COUNT = (
    _HEAD
    + """
return redis.call('LLEN', wait) + redis.call('LLEN', paused) + redis.call('ZCARD', prioritized)
  + redis.call('ZCARD', delayed) + redis.call('ZCOUNT', leases, '-inf', now)
"""
)

# The last of KEYS is the job's. BullMQ answers the same for a job that is new and one that is
# there; ours answers 0 for the latter. The time is the server's, whatever the client's clock says.
_NEW = """
if redis.call('EXISTS', KEYS[#KEYS]) == 1 then return 0 end
do
  local packed, clock = cmsgpack.unpack(ARGV[1]), redis.call('TIME')
  packed[4] = clock[1] * 1000 + math.floor(clock[2] / 1000)
  ARGV[1] = cmsgpack.pack(packed)
end
"""


def _add(name: str) -> str:
    """BullMQ's script `name`, then a field for the job's kind: ARGV[4]."""
    return f"""{_NEW}
local function add()
{_bullmq(name)}
end
local added = add()
if ARGV[4] ~= '' then redis.call('HSET', KEYS[#KEYS], 'mcp-hub:kind', ARGV[4]) end
return added
"""


ADD = _add("addPrioritizedJob")
ADD_DELAYED = _add("addDelayedJob")

# KEYS[15] is `leases`. Negative when the claim is not held.
FINISH = """
if redis.call('GET', KEYS[12] .. ':lock') == cmsgpack.unpack(ARGV[8])['token'] then
  redis.call('ZREM', KEYS[15], ARGV[1])
end
""" + _bullmq("moveToFinished")

# KEYS[3] is `leases`. BullMQ does not remove a job that somebody holds.
REMOVE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('DEL', KEYS[1] .. ':lock')
redis.call('ZREM', KEYS[3], ARGV[1])
""" + _bullmq("removeJob")

# KEYS[1] is `stalled`. BullMQ's first write is one that a full Redis refuses; this changes nothing.
RECOVER = "redis.call('SREM', KEYS[1], '')\n" + _bullmq("moveStalledJobsToWait")

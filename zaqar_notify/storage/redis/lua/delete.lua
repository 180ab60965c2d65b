-- Deletions, and what they leave. Beside what common.lua names, this touches
--   q:cancelled  sorted set: ids and salts of what was deleted before it was due, by when it was to be due at the latest
--   q:ended      hash: by salt, when that life of the queue ended; lives that ended before there was this have none
--   q:head       of a dropped queue keeps revision, ms, count and dropped_at; T:clients loses the queue

local KEPT_MS = 30 * 86400000
local DROPPED_KEPT_MS = 86400000

-- Notes what is cancelled, each with the instant at which it was to be due at the latest.
local function cancel(q, what, untils)
  local notes, first_until = {}, math.huge
  for i, one in ipairs(what) do
    notes[2 * i - 1], notes[2 * i] = untils[i], one
    first_until = math.min(first_until, untils[i])
  end
  if #notes == 0 then return end
  for first = 1, #notes, 2000 do
    call('ZADD', q .. ':cancelled', 'NX', unpack(notes, first, math.min(first + 1999, #notes)))
  end
  note(q, 'c', what)
  due(q, first_until + KEPT_MS)
end

-- The message of an id: {position, claim or false, until when it is delayed or false}; nil: there is none.
local function find(q, id, salt, now)
  local at = resolve(q, id, salt)
  if not at then return end
  local expiry = call('ZSCORE', q .. ':expiring', at)
  if not expiry or tonumber(expiry) <= now then return end
  local held = call('ZSCORE', q .. ':held', at)
  if not held or tonumber(held) <= now then return {at, false, false} end
  local _, claim = parsed(call('HGET', q .. ':states', at))
  return {at, claim ~= '' and claim, claim == '' and tonumber(held)}
end

-- {'delete', queue, now, ids, claims or false, how}
-- how 'one': the id must be free, or held by the claim that is named. 'some': each must be free, or held by
-- one of the claims. 'any': claimed ones, too.
-- Returns {'done'}, {'claimed', id}, {'unheld', id}
ops.delete = function(q, op)
  local now, how = op[3], op[6]
  local salt = call('HGET', q .. ':head', 'salt')
  if not salt then return {'done'} end
  local claims = {}
  for _, claim in ipairs(op[5] or {}) do claims[claim] = true end
  local gone, delayed, untils, seen = {}, {}, {}, {}
  for _, id in ipairs(op[4]) do
    local found = find(q, id, salt, now)
    if found and not seen[found[1]] then
      local holder = found[2]
      if how == 'one' then
        local named = op[5] and op[5][1] or false
        if named ~= holder then
          if holder and (not named or live_claim(q, named, now)) then return {'claimed', id} end
          return {'unheld', id}
        end
      elseif how == 'some' and holder and not claims[holder] then
        return {'unheld', id}
      end
      seen[found[1]] = true
      gone[#gone + 1] = found[1]
      if found[3] then delayed[#delayed + 1], untils[#untils + 1] = id, found[3] end
    end
  end
  remove(q, gone)
  cancel(q, delayed, untils)
  return {'done'}
end

-- Removes all messages and claims; changes that were noted are lost.
local function unlink(q)
  call('UNLINK', q .. ':records', q .. ':states', q .. ':free', q .. ':claimed', q .. ':delayed', q .. ':held',
    q .. ':expiring', q .. ':claims', q .. ':leases', q .. ':moved', q .. ':sealed', q .. ':changes')
  call('HDEL', q .. ':head', 'noting', 'changes')
  noting[q] = false
  call('ZREM', T .. ':sealed', q)
end

local function clear(q, now)
  local salt = call('HGET', q .. ':head', 'salt')
  local longest = tonumber(call('ZRANGE', q .. ':held', -1, -1, 'WITHSCORES')[2] or 0)
  if salt and longest > now then
    cancel(q, {salt}, {longest})
    call('HSETNX', q .. ':ended', salt, now)
  end
  unlink(q)
end

-- {'purge', queue, now, fresh salt}
ops.purge = function(q, op)
  if call('HEXISTS', q .. ':head', 'salt') == 0 then return {'done'} end
  clear(q, op[3])
  call('HSET', q .. ':head', 'salt', op[4])
  return {'done'}
end

-- {'drop', queue, now, member of T:clients, revision}
ops.drop = function(q, op)
  local now = op[3]
  local known = tonumber(call('HGET', q .. ':head', 'revision') or 0)
  clear(q, now)
  call('HDEL', q .. ':head', 'salt', 'rules', 'until', 'turn', 'freed', 'life', 'move')
  call('HSET', q .. ':head', 'revision', math.max(known, op[5]), 'dropped_at', now)
  call('ZREM', T .. ':clients', op[4])
  due(q, now + DROPPED_KEPT_MS)
  return {'done'}
end

-- {'drop_internal', queue, name}
ops.drop_internal = function(q, op)
  clear(q, present)
  -- The last position stays, so that a marker of before hides nothing.
  call('HDEL', q .. ':head', 'salt', 'rules', 'revision', 'until', 'turn', 'freed', 'life', 'move')
  if call('EXISTS', q .. ':head') == 1 then
    call('HSET', q .. ':head', 'dropped_at', present)
    due(q, present + DROPPED_KEPT_MS)
  end
  call('UNLINK', q .. ':cancelled', q .. ':ended')
  call('ZREM', T .. ':internal', op[3])
  return {'done'}
end

-- {'cancelled', queue, what…}: of each, when that life ended, or anything for an id; or false
ops.cancelled = function(q, op)
  local found = read_many('ZMSCORE', q .. ':cancelled', op[3])
  for i, ended in ipairs(read_many('HMGET', q .. ':ended', op[3])) do found[i] = ended or found[i] end
  return found
end

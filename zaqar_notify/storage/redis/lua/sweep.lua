-- The sweep of a tag. Beside what common.lua names, this touches q:answers, q:answering, q:cancelled,
-- q:ended.

local function first_score(key)
  return tonumber(call('ZRANGE', key, 0, 0, 'WITHSCORES')[2] or nil)
end

-- Sweeps one queue; returns how many of each kind it removed, and its next instant.
local function sweep_queue(q, now, limit)
  local expired = call('ZRANGEBYSCORE', q .. ':expiring', '-inf', now, 'LIMIT', 0, limit)
  remove(q, expired)
  local over = call('ZRANGEBYSCORE', q .. ':leases', '-inf', now, 'LIMIT', 0, limit)
  many('HDEL', q .. ':claims', over)
  many('ZREM', q .. ':leases', over)
  if #over > 0 then free_due(q, now) end
  local answers = call('ZRANGEBYSCORE', q .. ':answering', '-inf', now, 'LIMIT', 0, limit)
  many('HDEL', q .. ':answers', answers)
  many('ZREM', q .. ':answering', answers)
  local notes = call('ZRANGEBYSCORE', q .. ':cancelled', '-inf', now - KEPT_MS, 'LIMIT', 0, limit)
  many('ZREM', q .. ':cancelled', notes)
  many('HDEL', q .. ':ended', notes)
  local dropped = tonumber(call('HGET', q .. ':head', 'dropped_at') or nil)
  local forgotten = 0
  if dropped and dropped + DROPPED_KEPT_MS <= now then
    call('UNLINK', q .. ':head')
    dropped, forgotten = nil, 1
  end
  local following = {}
  for _, instant in ipairs({
    first_score(q .. ':expiring') or false,
    first_score(q .. ':leases') or false,
    first_score(q .. ':answering') or false,
    (first_score(q .. ':cancelled') or false) and first_score(q .. ':cancelled') + KEPT_MS,
    dropped and dropped + DROPPED_KEPT_MS or false,
  }) do
    if instant then following[#following + 1] = instant end
  end
  if #following > 0 then
    call('ZADD', T .. ':due', math.min(unpack(following)), q)
  else
    call('ZREM', T .. ':due', q)
  end
  return {#expired, #over, #answers, #notes, forgotten}
end

-- {'sweep', 0, now, limit}: how many were removed of the kind of which most were
ops.sweep = function(_, op)
  local now, limit = op[3], op[4]
  local sums, most = {0, 0, 0, 0, 0}, 0
  for _, q in ipairs(call('ZRANGEBYSCORE', T .. ':due', '-inf', now, 'LIMIT', 0, limit)) do
    for kind, count in ipairs(sweep_queue(q, now, limit - most)) do
      sums[kind] = sums[kind] + count
      most = math.max(most, sums[kind])
    end
    if most >= limit then break end
  end
  return most
end

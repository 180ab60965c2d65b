-- Heads, and the store's own records. Beside what common.lua names, this touches T:duties (hash: until when
-- each duty is taken) and T:proof.

-- {'head', queue}
ops.head = function(q)
  return head_of(q, 'head')
end

-- {'revision', queue}
ops.revision = function(q)
  return tonumber(call('HGET', q .. ':head', 'revision') or 0)
end

-- {'put', queue, rules, revision, until, fresh turn, fresh salt, member of T:clients}: whether it is of the revision
ops.put = function(q, op, full)
  local head = call('HMGET', q .. ':head', 'revision', 'salt', 'until', 'rules')
  local known = tonumber(head[1] or 0)
  if not head[2] then
    if op[4] <= known then return {false} end
    if full then return {'full'} end
    call('HSET', q .. ':head', 'rules', op[3], 'revision', op[4], 'until', op[5], 'turn', op[6], 'salt', op[7],
      'life', op[7])
    call('HDEL', q .. ':head', 'dropped_at')
    call('ZADD', T .. ':clients', 0, op[8])
  elseif op[4] > known then
    local until_then = math.max(op[5], tonumber(head[3]))
    call('HSET', q .. ':head', 'rules', op[3], 'revision', op[4], 'until', until_then)
    call('HINCRBY', q .. ':head', 'turn', 1)
  elseif op[4] < known or head[4] ~= op[3] then
    return {false}
  end
  return {true}
end

-- {'raise', queue, until}: whether there is a head
ops.raise = function(q, op)
  local head = call('HMGET', q .. ':head', 'salt', 'until')
  if not head[1] then return {false} end
  call('HSET', q .. ':head', 'until', math.max(op[3], tonumber(head[2])))
  call('HINCRBY', q .. ':head', 'turn', 1)
  return {true}
end

-- {'lower', queue, until, turn}: whether the turn was that
ops.lower = function(q, op)
  local head = call('HMGET', q .. ':head', 'salt', 'turn')
  if not head[1] or head[2] ~= op[4] then return {false} end
  call('HSET', q .. ':head', 'until', op[3])
  return {true}
end

-- {'names', 0, 'clients' or 'internal', from, to, limit}
ops.names = function(_, op)
  return call('ZRANGEBYLEX', T .. ':' .. op[3], op[4], op[5], 'LIMIT', 0, op[6])
end

-- {'ahead', queue, ms}: the next positions are at this ms or behind it
ops.ahead = function(q, op)
  local ms = last_of(q)
  if ms < op[3] then call('HSET', q .. ':head', 'ms', op[3], 'count', 0) end
  return {true}
end

-- {'duty', 0, now, duty, until}: whether it is the caller's
ops.duty = function(_, op)
  local taken = call('HGET', T .. ':duties', op[4])
  if taken and tonumber(taken) > op[3] then return {false} end
  call('HSET', T .. ':duties', op[4], op[5])
  return {true}
end

-- {'prove', 0}
ops.prove = function()
  call('SET', T .. ':proof', present)
  return {true}
end

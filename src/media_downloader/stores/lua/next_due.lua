-- The first due job of a site that is not closed. ARGV[1]: {closed = {site = true}, skip = {id = true}, skipped}.
-- Usually it is among the very first of the queue. When a flood of one site's jobs stands in front, each other site
-- is asked for its first one instead, so the cost follows the sites and not the flood.
local SCAN, PROMOTED = 64, 1000
local ask = cjson.decode(ARGV[1])

-- What waited for its time and need not wait any more is due, and stays so wherever the clock goes.
for _, member in ipairs(redis.call('ZRANGEBYSCORE', 'jobs:ready', '-inf', clock(), 'LIMIT', 0, PROMOTED)) do
  redis.call('ZREM', 'jobs:ready', member)
  redis.call('ZADD', 'jobs:due', 0, member)
  redis.call('HSET', 'job:' .. id_of(member), 'due', '1')
end

local queued = redis.call('ZRANGE', 'jobs:place:queued', 0, SCAN - 1)
for _, place in ipairs(queued) do
  local id = id_of(place)
  local site = redis.call('HGET', 'job:' .. id, 'site')
  if site and not ask.closed[site] and not ask.skip[id] and redis.call('ZSCORE', 'jobs:due', site .. '\0' .. place) then
    return cjson.encode(record(id))
  end
end
if #queued < SCAN then return '' end

local best, from = nil, '-'
while true do
  local site = redis.call('ZRANGEBYLEX', 'jobs:due', from, '+', 'LIMIT', 0, 1)[1]
  if not site then break end
  site = string.match(site, '^(%Z*)')
  if not ask.closed[site] then
    local first = '[' .. site .. '\0'
    for _, member in ipairs(redis.call('ZRANGEBYLEX', 'jobs:due', first, '(' .. site .. '\1', 'LIMIT', 0, ask.skipped + 1)) do
      local place = string.sub(member, #site + 2)
      if not ask.skip[id_of(place)] then
        if not best or place < best then best = place end
        break
      end
    end
  end
  from = '[' .. site .. '\1'
end
if not best then return '' end
return cjson.encode(record(id_of(best)))

-- ARGV: id, attempt, progress, id, attempt, progress, ... Writes the progress of those attempts that still hold their
-- jobs. No revision changes: progress decides nothing. Returns the ids of the others.
-- A full Redis refuses a script's first write, unless that is a removal, and nothing after it.
redis.call('DEL', 'jobs:nothing')
local stale = {}
for place = 1, #ARGV, 3 do
  local key = 'job:' .. ARGV[place]
  local held = redis.call('HMGET', key, 'attempt', 'owner')
  if held[1] == ARGV[place + 1] and held[2] then
    redis.call('HSET', key, 'progress', ARGV[place + 2])
  else
    stale[#stale + 1] = ARGV[place]
  end
end
return stale

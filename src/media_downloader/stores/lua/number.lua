-- Numbers that nobody else gets. ARGV: schema version, how many jobs, then priority and room, priority and room, ...
-- Returns the number of the last job and, for each priority, the position of the last at its end.
if redis.call('GET', 'media_downloader:schema') ~= ARGV[1] then return 'schema' end
local numbers = {redis.call('INCRBY', 'jobs:sequence', ARGV[2])}
for place = 3, #ARGV, 2 do
  redis.call('HINCRBY', 'jobs:positions', ARGV[place], ARGV[place + 1])
  -- As text: a number of Lua is too short for a position.
  numbers[#numbers + 1] = redis.call('HGET', 'jobs:positions', ARGV[place])
end
return numbers

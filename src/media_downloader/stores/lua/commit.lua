-- The one script that changes jobs: either every guard holds and every command is done, or nothing is.
-- ARGV: schema version, a job that is changed ("" when none stays), the revision it gets, guards, commands.
-- A guard is {"is", reply, command...}, {"first", first of the reply, command...}, {"below", number, command...} or
-- {"before", microseconds}.
-- Without a line of flags in front: with one, Redis 7 would refuse the whole script when it is full, whatever it begins with.
if redis.call('GET', 'media_downloader:schema') ~= ARGV[1] then return 'schema' end

-- The connection broke after this very commit, and its sender asks again. Where no job bears its revision, a key does
-- so for longer than anybody asks.
local mark = 'jobs:done:' .. ARGV[3]
if ARGV[2] == '' then
  if redis.call('EXISTS', mark) == 1 then return 'done' end
elseif redis.call('HGET', 'job:' .. ARGV[2], 'revision') == ARGV[3] then
  return 'done'
end

local function holds(guard)
  if guard[1] == 'before' then return tonumber(clock()) < tonumber(guard[2]) end
  local reply = redis.call(unpack(guard, 3))
  if guard[1] == 'below' then return tonumber(reply) < tonumber(guard[2]) end
  if guard[1] == 'first' then return (reply[1] or '') == guard[2] end
  return tostring(reply or '') == guard[2]
end

for _, guard in ipairs(cjson.decode(ARGV[4])) do
  if not holds(guard) then return 'conflict' end
end
for _, command in ipairs(cjson.decode(ARGV[5])) do redis.call(unpack(command)) end
if ARGV[2] == '' then redis.call('SET', mark, '1', 'EX', 60) end
return 'done'

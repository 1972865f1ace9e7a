-- Takes an empty database. ARGV: schema version. Returns the version that is there.
-- In one step: a store that began must not be taken for one whose jobs are all known.
if redis.call('EXISTS', 'media_downloader:schema') == 0 then
  redis.call('SET', 'jobs:rebuild', 'pending')
  redis.call('SET', 'media_downloader:schema', ARGV[1])
end
return redis.call('GET', 'media_downloader:schema')

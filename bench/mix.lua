-- 40 % master, 30 % replica with limits, 20 % sync, 10 % hosts, all in JSON.
local paths = {
  "/master", "/replica?lag_ms=60000", "/sync_by_time", "/master", "/hosts",
  "/replica?lag_bytes=100000000", "/master", "/sync_by_bytes", "/replica?lag_ms=30000", "/master",
}
local requests = {}
local turn = 0

function init(args)
  for i, path in ipairs(paths) do
    requests[i] = wrk.format("GET", path, { Host = wrk.host, Accept = "application/json" })
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

-- Requests one connectivity test. For an email channel, oHallo sends a real mail.
local os = require("os")
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["ohallo.eu/test-requested-at"] = os.date("!%Y-%m-%dT%H:%M:%SZ")
return obj
